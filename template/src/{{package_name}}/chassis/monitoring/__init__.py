"""Monitoring: one file for each tool. These files use the chassis, and no other part of the chassis uses them."""
