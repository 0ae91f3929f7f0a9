# SPDX-License-Identifier: Apache-2.0
"""Takes the uncompressed kernel out of a bzImage (Linux x86 boot protocol 2.08 or later)."""

import lzma
import shutil
import struct
import subprocess
import zlib

SETUP_SECTORS = 0x1F1
HEADER_MAGIC = 0x202
PROTOCOL_VERSION = 0x206
PAYLOAD = 0x248
SECTOR = 512

XZ = b"\xfd7zXZ\0"
GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
LZ4_LEGACY = b"\x02\x21\x4c\x18"


class BzImageError(Exception):
    """The file is not a bzImage that can be unpacked."""


def _tool(command: list[str], data: bytes) -> bytes:
    if not shutil.which(command[0]):
        raise BzImageError(f"{command[0]} is missing: apt-get install {command[0]}")
    result = subprocess.run(command, input=data, capture_output=True, check=False)
    if result.returncode != 0:
        raise BzImageError(f"{command[0]}: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout


def _decompress(packed: bytes, body: bytes) -> bytes:
    """PACKED with its length trailer, BODY without. gzip ends in its own length."""
    if packed.startswith(GZIP):
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(packed)
    if packed.startswith(XZ):
        return lzma.LZMADecompressor().decompress(body)
    if packed.startswith(ZSTD):
        return _tool(["zstd", "-dcq"], body)
    if packed.startswith(LZ4_LEGACY):
        return _tool(["lz4", "-dcq"], body)
    raise BzImageError(f"payload is packed in a way not known here ({packed[:6].hex()})")


def payload(image: bytes) -> bytes:
    """The compressed payload, its 4-byte length trailer included."""
    if len(image) < PAYLOAD + 8 or image[HEADER_MAGIC : HEADER_MAGIC + 4] != b"HdrS":
        raise BzImageError("no setup header: not a bzImage")
    (protocol,) = struct.unpack_from("<H", image, PROTOCOL_VERSION)
    if protocol < 0x208:
        raise BzImageError(f"boot protocol {protocol >> 8}.{protocol & 255:02}: 2.08 is needed")
    offset, length = struct.unpack_from("<II", image, PAYLOAD)
    start = ((image[SETUP_SECTORS] or 4) + 1) * SECTOR + offset
    if length < 8 or start + length > len(image):
        raise BzImageError("payload reaches past the end of the file: truncated")
    return image[start : start + length]


def unpack(image: bytes) -> bytes:
    """The ELF image, followed by its relocation table if the kernel has one."""
    packed = payload(image)
    try:
        kernel = _decompress(packed, packed[:-4])
    except (lzma.LZMAError, zlib.error) as error:
        raise BzImageError(f"payload: {error}") from error
    (length,) = struct.unpack("<I", packed[-4:])
    if len(kernel) != length:
        raise BzImageError(f"payload gives {len(kernel)} bytes, {length} expected: corrupt")
    if not kernel.startswith(b"\x7fELF"):
        raise BzImageError("payload is no ELF image")
    return kernel
