"""Several studies side by side: what may be compared, the statistics, a page and tables of it."""
