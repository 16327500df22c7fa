"""Tidy table -> Plotly figure: pure functions, no computation, no torch, no Streamlit."""
