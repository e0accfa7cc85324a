"""Which tests stand for the rows of "What befell other servers" in checklist.md."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Absent:
    """The row is about a program that is not there yet; it must be tested once that is."""
    program: str


# For each row: tests, as "file::function" or a file of C; or the program that is still to come.
TESTS = {
    "V-01": ["test_checklist_d06_end.py::test_d6_08_only_crlf_dot_crlf_ends_data",
             "test_smuggling.py::test_d6_08_corpus"],
    "V-02": ["test_checklist_d06_end.py::test_d6_09_also_later_in_a_session",
             "test_smuggling.py::test_d6_09_corpus_after_rset_and_second_hello"],
    "V-03": ["test_smuggling.py::test_d6_08_corpus_cut_at_every_octet",
             "test_smuggling.py::test_d6_08_every_arrangement_alone",
             "test_smuggling.py::test_d6_08_every_arrangement_together"],
    "V-04": ["test_checklist_d12.py::test_d12_08_plaintext_behind_starttls"],
    "V-05": ["test_checklist_d11.py::test_d11_14_close_notify_inside_a_chunk"],
    "V-06": ["test_vulnerabilities.py::test_v_06_chunks_in_every_wrong_state",
             "test_checklist_d11.py::test_d11_10_malformed"],
    "V-07": ["tests/fuzz/session.c", "test_fuzz.py"],
    "V-08": ["test_vulnerabilities.py::test_v_08_no_names_are_looked_up",
             "test_checklist_d13.py::test_d13_05_auth_is_not_offered", "tests/fuzz/proxy.c"],
    "V-09": ["test_pipeline.py::test_d4_12_odd_addresses_are_exact_in_the_row",
             "test_checklist_d04.py::test_d4_10_quoted_local_part"],
    "V-10": ["test_vulnerabilities.py::test_v_10_odd_ends_of_a_header"],
    "V-11": ["test_checklist_d04.py::test_d4_11_shell_in_a_path",
             "test_smtpd.py::test_runs_no_other_program", "test_confine.py"],
    "V-12": ["test_relay_hostile.py::test_what_is_no_reply",
             "test_relay_hostile.py::test_odd_replies_that_are_replies"],
    "V-13": ["test_vulnerabilities.py::test_v_13_listens_nowhere_else"],
    "V-14": ["test_checklist_d06_trace.py::test_d6_23_line_ends_cannot_be_forged",
             "test_vulnerabilities.py::test_v_14_line_ends_in_addresses"],
    "V-15": ["test_vulnerabilities.py::test_v_15_names_of_files"],
    "V-16": ["test_vulnerabilities.py::test_v_16_nothing_is_decompressed"],
    "V-17": ["test_relay_trouble.py::test_an_address_that_is_none_never_reaches_a_command"],
    "V-18": ["test_checklist_d06.py::test_d6_13_endless_data",
             "test_checklist_d02.py::test_d2_08_endless_line",
             "test_checklist_d11.py::test_d11_11_huge_chunk"],
    "V-19": Absent("queue"),
    "V-20": ["test_vulnerabilities.py::test_v_13_listens_nowhere_else",
             "test_checklist_d02.py::test_d2_15_http"],
    "V-21": ["test_checklist_d13_proxy.py::test_d13_07_late",
             "test_checklist_d13_proxy.py::test_d13_07_twice",
             "test_checklist_d13_proxy.py::test_d13_08_unlisted"],
    "V-22": ["test_vulnerabilities.py::test_v_22_nested_parts"],
    "V-23": ["test_pipeline.py::test_d4_12_odd_addresses_are_exact_in_the_row",
             "test_sql_text.py::test_header_field_name_is_no_pattern"],
}
