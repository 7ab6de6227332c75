"""Lint room: what a QDQ file of any origin costs on its target, by rules; nothing is executed."""
