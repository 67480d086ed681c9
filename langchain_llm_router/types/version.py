"""The installed version, from the package's metadata."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("langchain-llm-router")
