"""What the families for Arm cores share."""
