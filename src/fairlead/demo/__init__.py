"""The demo: an online shop's real purchases, replayed as live traffic through a whole Fairlead."""
