"""Smaller and faster models than the one that was trained: pruned, quantised, measured, and refused when they lose."""
