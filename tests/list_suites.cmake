# Writes what makes each suite of a GoogleTest program a test of ctest.
#   cmake -DNAME=<name> -DPROGRAM=<file> -DEMULATOR=<command, where PROGRAM is another machine's> -DTIMEOUT=<seconds>
#         -DSUITES=<file to write> -P list_suites.cmake
execute_process(COMMAND ${EMULATOR} "${PROGRAM}" --gtest_list_tests OUTPUT_VARIABLE listed COMMAND_ERROR_IS_FATAL ANY)
string(REGEX REPLACE "[ \t]*#[^\n]*" "" listed "${listed}") # what a parameter is
string(REPLACE "\n" ";" lines "${listed}")
# Skipped is what has nothing but skipped cases: after a failed one the list of skipped ones is not the end.
set(all_skipped "PASSED  . 0 tests.\n. +SKIPPED . [0-9]+ tests?, listed below:(\n. +SKIPPED [^\n]*)+\n?$")
set(content "")
set(command "")
foreach(word IN LISTS EMULATOR PROGRAM)
  string(APPEND command " [=[${word}]=]")
endforeach()
foreach(line IN LISTS lines)
  if(line MATCHES "^([A-Za-z][^ ]*)\\.$")
    set(suite "${CMAKE_MATCH_1}")
    string(APPEND content "add_test([=[${NAME}.${suite}]=]${command} [=[--gtest_filter=${suite}.*]=])\n"
           "set_tests_properties([=[${NAME}.${suite}]=] PROPERTIES TIMEOUT ${TIMEOUT} ENVIRONMENT OMP_NUM_THREADS=1\n"
           "  SKIP_REGULAR_EXPRESSION [=[${all_skipped}]=])\n")
  endif()
endforeach()
file(WRITE "${SUITES}" "${content}")
