"""Carries a study through its stages."""
