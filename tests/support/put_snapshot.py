"""Makes an EBS snapshot of an image: put_snapshot.py ENDPOINT REGION IMAGE [BASE]; prints its id.

Blocks of zeros are left out, as a volume leaves out what was never written.
"""

import base64
import hashlib
import sys

import boto3

endpoint, region, image = sys.argv[1:4]
BLOCK = 524288
client = boto3.client(
    "ebs", endpoint_url=endpoint, region_name=region, aws_access_key_id="test", aws_secret_access_key="test"
)
with open(image, "rb") as file:
    size = file.seek(0, 2)
    assert size % (1 << 30) == 0, "a volume has whole GiB"
    snapshot = client.start_snapshot(VolumeSize=size >> 30)["SnapshotId"]
    file.seek(0)
    count = 0
    for index in range(size // BLOCK):
        block = file.read(BLOCK)
        if not any(block):
            continue
        count += 1
        client.put_snapshot_block(
            SnapshotId=snapshot,
            BlockIndex=index,
            BlockData=block,
            DataLength=BLOCK,
            Checksum=base64.b64encode(hashlib.sha256(block).digest()).decode(),
            ChecksumAlgorithm="SHA256",
        )
    client.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=count)
print(snapshot)
