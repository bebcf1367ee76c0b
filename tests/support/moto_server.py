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



# AWS lists what is in either snapshot, in order; moto only what is in the first.
def _list_changed_blocks(self, first_snapshot_id, second_snapshot_id):
    first, second = self.snapshots[first_snapshot_id].blocks, self.snapshots[second_snapshot_id].blocks
    token = lambda blocks, index: blocks[index].block_token if index in blocks else None
    data = lambda blocks, index: blocks[index].block_data if index in blocks else None
    changed = {
        index: (token(first, index), token(second, index))
        for index in sorted(set(first) | set(second))
        if data(first, index) != data(second, index)
    }
    return changed, self.snapshots[second_snapshot_id]


moto.ebs.models.EBSBackend.list_changed_blocks = _list_changed_blocks

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
print(port, flush=True)
sys.stdin.buffer.read()
os._exit(0)
