"""What all integrations raise for what they cannot do. Needs no torch."""


class RefusedError(ValueError):
    """Something that was asked for cannot be done; the message is made for people."""
