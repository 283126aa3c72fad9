"""Alarms: what a person should hear of, told once, again while it lasts, and when it is over."""
