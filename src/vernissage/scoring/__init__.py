"""Automatic scores of pictures and of sets of pictures, side by side."""
