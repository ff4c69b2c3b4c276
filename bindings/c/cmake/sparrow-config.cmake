# find_package(sparrow) gives the targets sparrow::sparrow (shared) and sparrow::static.
get_filename_component(_sparrow_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

if(NOT TARGET sparrow::sparrow)
  add_library(sparrow::sparrow SHARED IMPORTED)
  set_target_properties(sparrow::sparrow PROPERTIES
    IMPORTED_LOCATION "${_sparrow_prefix}/lib/libsparrow_c.so"
    INTERFACE_INCLUDE_DIRECTORIES "${_sparrow_prefix}/include")

  add_library(sparrow::static STATIC IMPORTED)
  set_target_properties(sparrow::static PROPERTIES
    IMPORTED_LOCATION "${_sparrow_prefix}/lib/libsparrow_c.a"
    INTERFACE_INCLUDE_DIRECTORIES "${_sparrow_prefix}/include"
    INTERFACE_LINK_LIBRARIES "gcc_s;pthread;m;dl")
endif()
