"""What `randscene doctor` looks at. It lies in this room, not below, because it looks at all the others."""
