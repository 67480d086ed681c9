"""An MCP server over stdio with two tools, as a process of its own."""

from mcp.server.fastmcp import FastMCP

server = FastMCP("numbers")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def double(a: int) -> int:
    """Double a number."""
    return 2 * a


if __name__ == "__main__":
    server.run(transport="stdio")
