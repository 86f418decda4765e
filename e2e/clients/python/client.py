"""Drives Python's HTTP clients and curl, unmodified, for the matrix of package clients.

The argument names the client. Jobs come on standard input, one JSON object a line; each is answered with one line, and before that with
{"event": "first"} when the first text of a stream has come. The clients find their way through the environment that a user sets.
"""

import asyncio
import json
import os
import subprocess
import sys

LOOKUP = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}


def emit(value):
    print(json.dumps(value), flush=True)




class Abort(Exception):
    """Raised in the middle of a stream to leave it."""


class CurlFailed(Exception):
    """What curl says, and the body."""


class Chat:
    """OpenAI's chat completions as a program writes them that uses no library for them."""

    url = "https://api.openai.com/v1/chat/completions"

    def __init__(self, job):
        self.headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}

    def user(self, job):
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + (job.get("image") or "")}}
        return [{"type": "text", "text": job["prompt"]}, image] if job["scenario"] == "image" else job["prompt"]

    def tools(self):
        return [{"type": "function", "function": {"name": "lookup", "parameters": LOOKUP}}]

    def delta(self, event):
        return (event["choices"] or [{}])[0].get("delta", {}).get("content")

    def answer(self, reply, messages):
        """Returns the text, or None after a tool's result was added to the messages."""
        message = reply["choices"][0]["message"]
        if not message.get("tool_calls"):
            return message["content"]
        messages.append(message)
        for call in message["tool_calls"]:
            query = json.loads(call["function"]["arguments"])["query"]
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": "The shelf says: " + query})


class Messages:
    """Anthropic's messages, likewise."""

    url = "https://api.anthropic.com/v1/messages"

    def __init__(self, job):
        self.headers = {"X-Api-Key": os.environ["ANTHROPIC_API_KEY"], "Anthropic-Version": "2023-06-01", "Content-Type": "application/json"}

    def user(self, job):
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": job.get("image") or ""}}
        return [{"type": "text", "text": job["prompt"]}, image] if job["scenario"] == "image" else job["prompt"]

    def tools(self):
        return [{"name": "lookup", "input_schema": LOOKUP}]

    def delta(self, event):
        return event.get("delta", {}).get("text")

    def answer(self, reply, messages):
        uses = [b for b in reply["content"] if b["type"] == "tool_use"]
        if not uses:
            return "".join(b["text"] for b in reply["content"])
        messages.append({"role": "assistant", "content": reply["content"]})
        results = [{"type": "tool_result", "tool_use_id": u["id"], "content": "The shelf says: " + u["input"]["query"]} for u in uses]
        messages.append({"role": "user", "content": results})


SURFACES = {"openai.chat_completions": Chat, "anthropic.messages": Messages}


class Stream:
    """Reads the lines of a stream of server-sent events."""

    def __init__(self, job, surface):
        self.job, self.surface, self.text = job, surface, ""

    def line(self, line):
        if not line.startswith("data: ") or line == "data: [DONE]":
            return
        piece = self.surface.delta(json.loads(line[6:]))
        if not piece:
            return
        first, self.text = not self.text, self.text + piece
        if first:
            emit({"event": "first"})
            if self.job["scenario"] == "abort":
                raise Abort("the caller left")


def said(body, headers):
    """Returns what a program shows of an error: its body, and when to try again."""
    return body + (" Retry-After: " + headers["Retry-After"] if "Retry-After" in headers else "")


def with_requests(surface, body, stream):
    import requests

    r = requests.post(surface.url, data=body, headers=surface.headers, stream=stream is not None, timeout=60)
    if not r.ok:
        raise requests.HTTPError(said(r.text, r.headers), response=r)
    if stream is None:
        return r.json()
    with r:
        for line in r.iter_lines(chunk_size=1, decode_unicode=True):
            stream.line(line)


def with_httpx(surface, body, stream):
    import httpx

    with httpx.Client(http2=True, timeout=60) as client:
        with client.stream("POST", surface.url, content=body, headers=surface.headers) as r:
            if r.is_error:
                raise httpx.HTTPStatusError(said(r.read().decode(), r.headers), request=r.request, response=r)
            if stream is None:
                return json.loads(r.read())
            for line in r.iter_lines():
                stream.line(line.rstrip("\n"))


def with_aiohttp(surface, body, stream):
    import aiohttp

    async def go():
        # Since its trust is Python's own, SSL_CERT_FILE holds for it, too; it reads the proxy from the environment when told that it may.
        async with aiohttp.ClientSession(trust_env=True) as session:
            async with session.post(surface.url, data=body, headers=surface.headers) as r:
                if r.status >= 400:
                    raise aiohttp.ClientResponseError(r.request_info, r.history, status=r.status, message=said(await r.text(), r.headers))
                if stream is None:
                    return await r.json()
                async for line in r.content:
                    stream.line(line.decode().rstrip("\n"))

    return asyncio.run(go())


def with_urllib(surface, body, stream):
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(urllib.request.Request(surface.url, data=body, headers=surface.headers), timeout=60) as r:
            if stream is None:
                return json.load(r)
            for line in r:
                stream.line(line.decode().rstrip("\n"))
    except urllib.error.HTTPError as e:
        e.msg = said(e.read().decode(), e.headers)
        raise


def with_curl(*options, coding=None):
    def curl(surface, body, stream):
        command = ["curl", "--silent", "--show-error", "--fail-with-body", "--no-buffer", "--max-time", "60", "--data-binary", "@-", *options, surface.url]
        for header in surface.headers.items():
            command += ["--header", "%s: %s" % header]
        if coding:
            command += ["--header", "Content-Encoding: " + coding]
            body = subprocess.run([coding, "-c"], input=body, stdout=subprocess.PIPE, check=True).stdout
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
            p.stdin.write(body)
            p.stdin.close()
            said = []
            try:
                for line in p.stdout:
                    said.append(line.decode())
                    if stream is not None:
                        stream.line(said[-1].rstrip("\n"))
            except Abort:
                p.terminate()
                raise
            if p.wait() != 0:
                raise CurlFailed(p.stderr.read().decode().strip() + " " + "".join(said))
        return None if stream is not None else json.loads("".join(said))

    return curl


CLIENTS = {
    "curl-h1": with_curl("--http1.1"),
    "curl-h2": with_curl("--http2", "--compressed"),
    "curl-gzip": with_curl(coding="gzip"),
    "curl-zstd": with_curl(coding="zstd"),
    "python-requests": with_requests,
    "python-httpx": with_httpx,
    "python-aiohttp": with_aiohttp,
    "python-urllib": with_urllib,
}


def run(client, job):
    surface = SURFACES[job["surface"]](job)
    messages = [{"role": "user", "content": surface.user(job)}]
    request = {"model": job["model"], "messages": messages, "max_tokens": 256}
    stream = None
    if job["scenario"] in ("streamed", "abort"):
        request["stream"], stream = True, Stream(job, surface)
    if job["scenario"] == "tools":
        request["tools"] = surface.tools()
    for _ in range(3):
        reply = client(surface, json.dumps(request).encode(), stream)
        if stream is not None:
            return stream.text
        text = surface.answer(reply, messages)
        if text is not None:
            return text
    raise Exception("the model asks for tools for ever")


def main():
    client = CLIENTS[sys.argv[1]]
    for line in sys.stdin:
        job = json.loads(line)
        result = {"client": job["client"], "surface": job["surface"], "scenario": job["scenario"], "ok": True, "exception": "", "message": "", "text": ""}
        try:
            result["text"] = run(client, job)
        except Exception as e:
            status = getattr(e, "status", None) or getattr(e, "code", None) or getattr(getattr(e, "response", None), "status_code", None)
            result["ok"], result["message"] = False, str(e)
            result["exception"] = type(e).__module__ + "." + type(e).__qualname__ + (" %d" % status if isinstance(status, int) else "")
        emit(result)


main()
