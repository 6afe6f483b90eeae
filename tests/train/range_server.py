#!/usr/bin/env python3
"""Serves one file on the loopback interface, byte ranges included, until it is killed: range_server.py FILE LOG [OPTION].

Prints its port. Before it answers, it adds a line to LOG: the Range header (or -) and how many bytes it is about to send.
"""
import argparse
import http.server
import pathlib
import re


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and not arguments.no_ranges else 0
        body = content[first:]
        if first and not body:
            self.log("0")
            self.send_error(416)
            return
        announced = len(body)
        if arguments.cut_first and not arguments.log.exists():
            body = body[:arguments.cut_first]
        self.log(len(body))
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(body)

    def log(self, sent):
        with arguments.log.open("a") as file:
            file.write(f"{self.headers.get('Range', '-')} {sent}\n")

    def log_message(self, *_):
        pass


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("file", type=pathlib.Path)
parser.add_argument("log", type=pathlib.Path)
parser.add_argument("--cut-first", type=int, metavar="BYTES", help="close the first connection after so many bytes")
parser.add_argument("--no-ranges", action="store_true", help="send the whole file whatever the client asks for")
arguments = parser.parse_args()
content = arguments.file.read_bytes()
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
