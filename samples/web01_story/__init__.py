"""The made incident `web01`, told once and written into every log that would have seen it."""
