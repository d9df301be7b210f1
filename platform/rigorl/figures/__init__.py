"""Curves -> pictures. Pure: arrays in, a Plotly figure out."""
