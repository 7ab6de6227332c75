"""Netron on a teacher and its student, with what is known of every node."""
