"""What each way of freezing costs: FLOPs and bytes of one training step, counted and not timed."""
