"""The table of faults: what is injected into the real process, what must hold then, and the tests that check it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

E2E = "tests/e2e"
ENGINE, SIGNALS = f"{E2E}/test_faults_engine.py", f"{E2E}/test_faults_signals.py"
FILES, PIPES, CLOCK = f"{E2E}/test_faults_files.py", f"{E2E}/test_faults_pipes.py", f"{E2E}/test_faults_clock.py"
UNIT = "tests/unit"
SANDBOX, WORKERS = f"{UNIT}/sandbox/test_sandbox.py", f"{UNIT}/mcp_protocol/calls/test_worker_threads.py"
FOLDER = f"{E2E}/test_working_folder.py"
LIFECYCLE, STDOUT, STORED = (f"{E2E}/test_{name}.py" for name in ("lifecycle", "stdout", "stored_sessions"))


@dataclass(frozen=True)
class Fault:
    """One row; `tests` are `file::name`."""

    injected: str
    holds: str
    tests: tuple[str, ...]

    def is_tested_in(self, files: Sequence[str]) -> bool:
        """Whether all its tests are in files of these names."""
        return all(test.partition("::")[0].endswith(tuple(files)) for test in self.tests)


FAULTS = (
    Fault(
        "a step of the engine raises, also out of memory, under one answer or a batch",
        "that call fails with what to do, its session is as it was; the next call loads the model and is answered",
        (
            f"{ENGINE}::test_broken_step_fails_the_call_that_met_it_and_no_other",
            f"{ENGINE}::test_step_that_breaks_under_a_batch_fails_the_whole_batch",
        ),
    ),
    Fault(
        "the engine's process is killed, between calls or under an answer",
        "the call that meets it fails; the next one loads the model in a new process; the old one leaves nothing",
        (
            f"{ENGINE}::test_engine_process_killed_under_an_answer_fails_that_call_and_the_next_one_loads_again",
            f"{E2E}/test_gpu.py::test_killed_engine_process_fails_that_call_and_the_next_one_loads_again",
        ),
    ),
    Fault(
        "memory runs out in a load: for the cache, for vLLM's compiled part, for vLLM itself",
        "the call is told; everything else is served; with memory back, the next call loads the model",
        (
            f"{ENGINE}::test_memory_that_runs_out_in_a_load_is_told_and_the_next_call_loads",
            f"{ENGINE}::test_too_little_memory_for_vllm_itself_is_told_and_everything_else_is_served",
        ),
    ),
    Fault(
        "memory runs out in an answer, or for a message",
        "that call, or that message, at most is lost, and is told so",
        (
            f"{ENGINE}::test_memory_that_runs_out_in_an_answer_costs_that_answer_at_most",
            f"{ENGINE}::test_message_that_is_too_large_for_the_memory_is_refused_and_the_next_is_served",
        ),
    ),
    Fault(
        "the system gives no more threads or open files",
        "calls that need one fail with a clear error; no thread of the server dies of it",
        (
            f"{ENGINE}::test_first_call_without_a_thread_to_run_it_is_told_and_the_next_is_served",
            f"{ENGINE}::test_too_many_open_files_end_no_thread_of_the_server",
            f"{ENGINE}::test_too_many_open_files_fail_a_call_that_needs_one",
        ),
    ),
    Fault(
        "the disk of the output folder is full, or read-only",
        "it is told, nothing half-written is left, whole files stay; with room again, files are written again",
        (
            f"{FILES}::test_full_disk_is_told_leaves_nothing_half_written_and_takes_files_again_when_there_is_room",
            f"{FILES}::test_video_on_a_full_disk_is_told_and_leaves_nothing",
            f"{FILES}::test_speech_or_video_on_a_full_disk_is_told_and_written_when_there_is_room",
            f"{FILES}::test_read_only_folder_is_told_before_anything_is_generated",
        ),
    ),
    Fault(
        "the disk of the sessions' file is full, or read-only",
        "every turn is answered and kept in memory, which each answer says; with room again, the file has all of them",
        (
            f"{FILES}::test_full_disk_costs_no_turn_and_gets_them_all_when_there_is_room",
            f"{FILES}::test_read_only_folder_costs_no_turn_and_what_is_in_it_is_read",
        ),
    ),
    Fault(
        "another process has locked the sessions' file",
        "every turn is answered, and stored when the lock is gone",
        (f"{FILES}::test_file_that_another_process_has_locked_costs_no_turn_and_gets_them_later",),
    ),
    Fault(
        "the sessions' file is cut off, overwritten, from a newer server, or no database",
        "it is set aside or left as it is, never thrown away; the server goes on with a fresh one",
        (
            f"{FILES}::test_file_that_cannot_be_read_is_left_or_set_aside_and_the_server_goes_on",
            f"{STORED}::test_every_server_starts_and_lists_whatever_the_file_is",
            f"{STORED}::test_file_that_cannot_be_used_costs_no_answer",
        ),
    ),
    Fault(
        "the server is killed between turns and in the middle of one",
        "no answered turn is lost",
        (f"{STORED}::test_no_answered_turn_is_lost_by_kills_and_every_session_goes_on",),
    ),
    Fault(
        "the disk of the log is full",
        "the model loads and answers; what was dropped is counted",
        (f"{FILES}::test_log_on_a_full_disk_stops_nothing",),
    ),
    Fault(
        "the disk of a client's settings, or of compiled code, is full",
        "it is told, and what was there before is unchanged",
        (
            f"{FILES}::test_entry_on_a_full_disk_leaves_the_clients_file_as_it_was",
            f"{UNIT}/engine/test_speedups.py::test_code_whose_note_does_not_fit_on_the_disk_is_not_kept",
        ),
    ),
    Fault(
        "whatever a tool, a task of the server or a worker's own parts raise; a worker ends without a word",
        "at most that call fails, and is told so; a worker that ended is replaced",
        (
            f"{UNIT}/mcp_protocol/tools/test_tool_calls.py::test_nothing_that_a_tool_raises_ends_the_worker",
            f"{UNIT}/mcp_protocol/tools/test_tool_calls.py::test_nothing_that_a_task_raises_ends_the_worker",
            f"{WORKERS}::test_worker_outlives_whatever_its_own_parts_raise",
            f"{WORKERS}::test_what_is_thrown_into_a_waiting_worker_costs_no_call",
            f"{WORKERS}::test_worker_that_ends_all_the_same_is_replaced",
            f"{WORKERS}::test_worker_that_ended_without_a_word_is_replaced_by_the_next_call",
        ),
    ),
    Fault(
        "the process that decodes media crashes, is killed, or takes too much memory or time",
        "that file alone is refused; the next one is decoded in a new process; none outlives the server",
        (
            f"{SANDBOX}::test_a_fault_costs_its_own_call_alone",
            f"{SANDBOX}::test_time_ends",
            f"{SANDBOX}::test_cancelling_ends_the_work_at_once",
            f"{E2E}/test_hostile_media.py::test_a_hostile_file_costs_its_own_call_alone",
            f"{E2E}/test_hostile_media.py::test_children_are_gone_with_a_server_that_was_killed",
        ),
    ),
    Fault(
        "the working folder is gone, at the start or later",
        "the model loads and answers; relative paths count from the start",
        (
            f"{FOLDER}::test_model_is_loaded_in_a_folder_that_was_gone_at_the_start",
            f"{FOLDER}::test_folder_that_goes_while_the_server_runs_is_not_missed",
            f"{FOLDER}::test_processes_of_the_engine_are_started_although_the_folder_is_gone",
        ),
    ),
    Fault(
        "the reader of stdout stalls with megabytes on their way, then goes on",
        "nothing is lost, doubled or out of order; a signal still ends the server",
        (
            f"{PIPES}::test_reader_that_stalls_under_megabytes_loses_nothing",
            f"{STDOUT}::test_slow_reader_gets_everything_in_the_end",
            f"{STDOUT}::test_signal_ends_a_server_whose_reader_stalls",
        ),
    ),
    Fault(
        "stdout is closed, or takes no more",
        "the server ends by itself with status 0",
        (
            f"{STDOUT}::test_server_ends_when_the_reader_leaves_in_the_middle",
            f"{STDOUT}::test_full_disk_behind_stdout_ends_the_server",
            f"{LIFECYCLE}::test_server_ends_when_the_reader_leaves_during_a_load",
        ),
    ),
    Fault(
        "stderr is never read, closed, or closed from the start",
        "nothing stands still; what nobody took is counted",
        (
            f"{STDOUT}::test_stderr_that_nobody_reads_stops_nothing",
            f"{STDOUT}::test_dropped_log_is_counted_for_a_late_reader",
            f"{STDOUT}::test_stderr_closed_by_the_host_stops_nothing",
            f"{STDOUT}::test_stderr_closed_from_the_start_stops_nothing",
        ),
    ),
    Fault(
        "the wall clock jumps years ahead and back, under a call, a job and an idle model",
        "deadlines, waits, idle times and the keeping of jobs go by the time that passes",
        (
            f"{CLOCK}::test_clock_that_jumps_moves_no_deadline_and_ends_no_model",
            f"{CLOCK}::test_clock_that_jumps_makes_no_job_older_or_younger",
            f"{CLOCK}::test_only_what_is_shown_is_read_off_the_wall_clock",
        ),
    ),
    Fault(
        "the machine sleeps for a while in the middle of an answer",
        "the answer comes when it wakes",
        (f"{CLOCK}::test_process_that_stood_still_goes_on",),
    ),
    Fault(
        "SIGTERM, SIGINT, SIGHUP: starting, idle, importing, loading, generating, released, jobs running",
        "status 0 within the limit, the waiting call answered, no process left",
        (
            f"{SIGNALS}::test_signal_ends_the_server_in_time_with_an_answer_and_no_orphan",
            f"{LIFECYCLE}::test_signal_in_every_phase_answers_the_call_and_leaves_nothing_behind",
            f"{LIFECYCLE}::test_signal_ends_an_idle_server_with_status_0",
            f"{LIFECYCLE}::test_signal_during_the_start_ends_the_server",
        ),
    ),
    Fault(
        "SIGKILL of the server in every phase",
        "no process is left, and no socket",
        (
            f"{SIGNALS}::test_sockets_of_the_engines_process_go_with_the_server",
            f"{SIGNALS}::test_kill_leaves_no_orphan",
            f"{LIFECYCLE}::test_kill_leaves_no_orphan",
            f"{E2E}/test_engine_end.py::test_nothing_outlives_a_killed_server",
        ),
    ),
    Fault(
        "SIGKILL of the host in every phase",
        "the server ends within the limit, and no process is left",
        (f"{SIGNALS}::test_server_ends_in_time_when_its_host_is_killed",),
    ),
    Fault(
        "the servers of models, images and videos answer badly, break off, or die",
        "one clear error, nothing half-written, and the next call is served",
        (
            f"{E2E}/test_image_faults.py::test_one_clear_error_and_nothing_half_written",
            f"{E2E}/test_images.py::test_server_that_dies_in_the_middle_of_a_batch_and_comes_back",
            f"{E2E}/test_video.py::test_server_that_dies_in_the_middle_and_comes_back",
            f"{E2E}/test_video.py::test_job_that_fails_on_the_server",
        ),
    ),
)
