"""Turning models into text."""
