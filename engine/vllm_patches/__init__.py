"""What this server replaces in vLLM at run time: all of it is here, and vLLM's files are never changed.

A patch is one public function. Its docstring names the release of vLLM it was made for, what that release does, and
what is done instead. A patch for the whole process may be applied twice, and does nothing where vLLM has no such
function any more. `tests/e2e/test_vllm_patches.py` says of each when it is no longer needed.
"""
