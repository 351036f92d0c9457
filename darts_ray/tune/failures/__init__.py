"""What happens when a trial, a storage, a driver or a cluster breaks."""
