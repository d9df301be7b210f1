"""Small worlds and agents for tests; some misbehave on purpose."""
