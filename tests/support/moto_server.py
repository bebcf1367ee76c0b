"""moto's AWS services on a free loopback port, printed on the first line; ends when its standard input does.

Where moto is further from AWS's documents than a test can bear, it is mended here and nowhere else.
"""

import os
import sys

import moto.ebs.models
import moto.ec2.models.elastic_network_interfaces
import moto.s3.models
import moto.s3.responses
from moto.server import ThreadedMotoServer

# AWS's blocks have 512 KiB; moto's have 512 bytes.
_make = moto.ebs.models.EBSSnapshot.__init__


def _make_with_blocks_of_512_kib(self, *args, **kwargs):
    _make(self, *args, **kwargs)
    self.block_size = 524288


moto.ebs.models.EBSSnapshot.__init__ = _make_with_blocks_of_512_kib


# A snapshot that EC2 makes of a volume can be read: it holds the blocks of the snapshot that the volume was made from.
_lists = moto.ebs.models.EBSBackend.list_snapshot_blocks
_gets = moto.ebs.models.EBSBackend.get_snapshot_block


def _known(self, snapshot_id):
    if snapshot_id not in self.snapshots:
        made = self.ec2_backend.snapshots[snapshot_id]
        readable = moto.ebs.models.EBSSnapshot(account_id=self.account_id, snapshot=made)
        readable.status = "completed"
        origin = self.snapshots.get(made.volume.snapshot_id)
        readable.blocks = dict(origin.blocks) if origin else {}
        self.snapshots[snapshot_id] = readable


def _list(self, snapshot_id):
    _known(self, snapshot_id)
    return _lists(self, snapshot_id)


def _get(self, snapshot_id, block_index):
    _known(self, snapshot_id)
    return _gets(self, snapshot_id, block_index)


moto.ebs.models.EBSBackend.list_snapshot_blocks = _list
moto.ebs.models.EBSBackend.get_snapshot_block = _get


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
# AWS takes parts of 5 MiB at least; tests make many parts of little.
moto.s3.models.S3_UPLOAD_PART_MIN_SIZE = 1

# An interface has the groups that it was given last; moto adds those that its instance was started with.
moto.ec2.models.elastic_network_interfaces.NetworkInterface.group_set = property(lambda self: self._group_set)



# AWS names the answer VersioningConfiguration.
_versioning = moto.s3.responses.S3Response.get_bucket_versioning


def _get_bucket_versioning(self):
    status, headers, body = _versioning(self)
    return status, headers, body.replace("GetBucketVersioningResponse", "VersioningConfiguration")


moto.s3.responses.S3Response.get_bucket_versioning = _get_bucket_versioning

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
print(port, flush=True)
sys.stdin.buffer.read()
os._exit(0)
