"""moto's AWS services on a free loopback port, printed on the first line; ends when its standard input does.

Where moto is further from AWS's documents than a test can bear, it is mended here and nowhere else.
"""

import os
import sys

import moto.ebs.models
from moto.server import ThreadedMotoServer

# AWS's blocks have 512 KiB; moto's have 512 bytes.
_make = moto.ebs.models.EBSSnapshot.__init__


def _make_with_blocks_of_512_kib(self, *args, **kwargs):
    _make(self, *args, **kwargs)
    self.block_size = 524288


moto.ebs.models.EBSSnapshot.__init__ = _make_with_blocks_of_512_kib

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
print(port, flush=True)
sys.stdin.buffer.read()
os._exit(0)
