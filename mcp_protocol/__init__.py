"""MCP: JSON-RPC messages, revisions, transports, the queue of calls, and the tables of tools, resources and prompts.

server       dispatches messages; runner runs calls on a worker thread
calls/       the call, the queue and its scheduling policy
tools/       the table of tools: schemas, validation, results
resources/   resources, prompts, completion and subscriptions
main_loop    stdin, signals and deadlines on the main thread; stdio reads and writes lines
http/        the HTTP transport

It knows nothing of models or media, and not what any tool does: it passes a call to a handler and sends the result.
"""
