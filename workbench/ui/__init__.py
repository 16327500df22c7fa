"""What pages share: choices, the state of a study, charts with their tables, the token strip, escaping, navigation.

This room is the only one beside `pages/` and `app.py` that imports Streamlit (`escape`, `defaults` and `compare` do not
even need it). Nothing here imports torch.
"""
