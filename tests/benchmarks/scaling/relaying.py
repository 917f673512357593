"""The process that is a relay: on loopback, it hands on what a server answers a set time later (`relay.Relay`).

Each piece is delayed by itself, so answers that follow each other closely still do so when they arrive, and the
relay limits no throughput. Threads, because a sleeping thread is woken within 0.1 ms; an event loop rounds to 1 ms.
It imports nothing that takes time.
"""

from __future__ import annotations

import argparse
import queue
import socket
import sys
import threading
import time
from contextlib import suppress

_LONGEST_MS = 1000.0
_CONNECTIONS = 64
_PIECES = 1024
_PIECE_BYTES = 65_536


class _Forwarding:
    """Accepts until the process ends."""

    def __init__(self, to: int) -> None:
        self.delay_s = 0.0
        self._to = to
        self._free = threading.Semaphore(_CONNECTIONS)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if not self._free.acquire(blocking=False):
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One connection, until either side ends it."""
        pieces: queue.Queue[tuple[float, bytes]] = queue.Queue(_PIECES)
        try:
            with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._to)) as server:
                for side in (client, server):
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                asking = threading.Thread(target=_hand_on, args=(client, server), daemon=True)
                answering = threading.Thread(target=_deliver, args=(pieces, client), daemon=True)
                asking.start()
                answering.start()
                while piece := server.recv(_PIECE_BYTES):
                    pieces.put((time.monotonic() + self.delay_s, piece))
                pieces.put((time.monotonic() + self.delay_s, b""))
                answering.join()
        finally:
            self._free.release()


def _hand_on(client: socket.socket, server: socket.socket) -> None:
    with suppress(OSError):
        while piece := client.recv(_PIECE_BYTES):
            server.sendall(piece)
        server.shutdown(socket.SHUT_RDWR)


def _deliver(pieces: queue.Queue[tuple[float, bytes]], client: socket.socket) -> None:
    """Each piece when it is due, an empty one ends the connection. What cannot be delivered is thrown away."""
    while True:
        due, piece = pieces.get()
        if (wait_s := due - time.monotonic()) > 0:
            time.sleep(wait_s)
        with suppress(OSError):
            if not piece:
                client.shutdown(socket.SHUT_RDWR)
                return
            client.sendall(piece)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=int, required=True)
    forwarding = _Forwarding(parser.parse_args().to)
    print(forwarding.port, flush=True)
    for line in sys.stdin:
        forwarding.delay_s = min(max(float(line), 0.0), _LONGEST_MS) / 1000
        print("ok", flush=True)


if __name__ == "__main__":
    main()
