"""What makes this an engine's log: websockets, ASGI, recordings and processes log themselves."""

__all__: list[str] = []
