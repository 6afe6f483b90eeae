include(CMakeFindDependencyMacro)
find_dependency(mma CONFIG)
include("${CMAKE_CURRENT_LIST_DIR}/angle_of-targets.cmake")
