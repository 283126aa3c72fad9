"""What a plug-in's own tests subclass, and a world for tests to live in."""
