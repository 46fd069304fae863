"""Makes items with models behind OpenAI-compatible endpoints, and lets models check, solve, repair and expand them."""
