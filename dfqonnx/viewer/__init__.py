"""Shows a teacher and its student in Netron, with bits and noise on every node."""
