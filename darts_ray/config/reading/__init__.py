"""From YAML, overrides and shipped files to a configuration, and what is said on the way."""
