"""uvicorn's protocols with limits: what one connection may send and be sent, how fast, and how its end is enforced."""
