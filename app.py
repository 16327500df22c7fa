"""The browser app: `streamlit run app.py`, or `streamlit run asgi.py` with security headers."""

import streamlit as st

from workbench.ui import frame, navigation

frame.configure()
frame.draw(st.navigation(navigation.pages()))
