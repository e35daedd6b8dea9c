"""The processes of `benchmarks/websocket.py`: `server`, and `client`, which is bare `websockets` or a node of pydrm."""
