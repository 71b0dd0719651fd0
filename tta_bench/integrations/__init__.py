"""Harnesses that others use, with the samplers of this package inside. Each needs an extra of its own."""
