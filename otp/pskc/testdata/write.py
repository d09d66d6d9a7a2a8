"""Writes a PSKC file by python-pskc, as the JSON object on standard input says."""

import datetime
import json
import sys

from pskc import PSKC

order = json.load(sys.stdin)
out = PSKC()
for k in order["keys"]:
    start, expiry = k.pop("start", None), k.pop("expiry", None)
    k["secret"] = bytes.fromhex(k["secret"])
    key = out.add_key(response_encoding="DECIMAL", **k)
    if start:
        key.policy.start_date = datetime.datetime.fromisoformat(start)
    if expiry:
        key.policy.expiry_date = datetime.datetime.fromisoformat(expiry)
e = order.get("encryption", {})
if "mac" in order:
    out.mac.setup(algorithm=order["mac"])
if "key" in e:
    e["key"] = bytes.fromhex(e["key"])
    out.encryption.setup_preshared_key(**e)
elif "password" in e:
    out.encryption.setup_pbkdf2(**e)
out.write(sys.stdout)
