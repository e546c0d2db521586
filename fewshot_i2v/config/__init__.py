"""What a run is: one pydantic model for each command, and how YAML and flags become one."""
