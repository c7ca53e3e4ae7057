"""randscene: an open data engine and trainer for view-centric 3D scene generation."""

__version__ = "0.1.0"
