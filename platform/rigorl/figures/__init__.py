"""Curves and candidates -> figures. Pure: arrays or a table in, a Plotly figure out."""
