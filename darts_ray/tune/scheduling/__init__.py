"""Which searches go on, and with which values: schedulers and searchers of a study."""
