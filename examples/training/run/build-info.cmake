# Run at each build: writes OUTPUT from TEMPLATE with the commit of the repository SOURCE, only when it has changed.
set(git_commit "unknown")
execute_process(COMMAND git -C "${SOURCE}" rev-parse --show-toplevel OUTPUT_VARIABLE repository ERROR_QUIET
                OUTPUT_STRIP_TRAILING_WHITESPACE)
file(REAL_PATH "${SOURCE}" source)
# A copy without its own history may lie inside somebody else's repository.
if(repository STREQUAL source)
  execute_process(COMMAND git -C "${SOURCE}" describe --always --abbrev=40 --exclude=* --dirty
                  OUTPUT_VARIABLE described ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(described)
    set(git_commit "${described}")
  endif()
endif()
configure_file("${TEMPLATE}" "${OUTPUT}" @ONLY)
