# cmake --install: library, headers, specular.pc, CMake package, sample models, man page, completions, licences.
include(CMakePackageConfigHelpers)

set(SPECULAR_LIBRARY specular)
set(SPECULAR_PC_LIBS " -lm -pthread")
set(SPECULAR_PC_REQUIRES "libpng zlib jansson libpcre2-8")
if(BUILD_SHARED_LIBS)
  # The shared library is the static one with the names of specular.h alone; the program and the tests, which use
  # internal headers, link the static one.
  set(SPECULAR_LIBRARY specular_shared)
  set(SPECULAR_PC_LIBS)
  set(SPECULAR_PC_REQUIRES)
  set(map ${CMAKE_SOURCE_DIR}/cmake/specular.map)
  add_library(specular_shared SHARED ${map})
  set_target_properties(specular_shared PROPERTIES LINKER_LANGUAGE C OUTPUT_NAME specular EXPORT_NAME specular
    VERSION ${PROJECT_VERSION} SOVERSION 0 LINK_DEPENDS "${map};$<TARGET_FILE:specular>")
  add_dependencies(specular_shared specular)
  target_include_directories(specular_shared INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/specular>)
  target_link_libraries(specular_shared PRIVATE
    -Wl,--whole-archive,$<TARGET_FILE:specular>,--no-whole-archive
    -Wl,--version-script=${map} -Wl,--no-undefined
    Threads::Threads PNG::PNG PkgConfig::JANSSON PkgConfig::PCRE2 m)
endif()

install(TARGETS ${SPECULAR_LIBRARY} EXPORT specularTargets)
install(FILES src/specular.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/specular)
install(FILES src/base/error.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/specular/base)
install(FILES LICENSE NOTICE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY samples/ DESTINATION ${CMAKE_INSTALL_DATADIR}/specular/samples PATTERN "*.png" EXCLUDE)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/specular)
install(EXPORT specularTargets NAMESPACE specular:: DESTINATION ${package})
configure_package_config_file(cmake/specularConfig.cmake.in specularConfig.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(specularConfigVersion.cmake COMPATIBILITY SameMinorVersion)
configure_file(cmake/specular.pc.in specular.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/specularConfig.cmake ${CMAKE_BINARY_DIR}/specularConfigVersion.cmake
  DESTINATION ${package})
install(FILES ${CMAKE_BINARY_DIR}/specular.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# The program writes its own man page and completions, from options.def.
function(specular_written_by_program file destination)
  set(written ${CMAKE_BINARY_DIR}/share/${file})
  add_custom_command(OUTPUT ${written} COMMAND specular_cli ${ARGN} > ${written} DEPENDS specular_cli VERBATIM)
  target_sources(specular_documents PRIVATE ${written})
  install(FILES ${written} DESTINATION ${destination})
endfunction()

if(TARGET specular_cli AND NOT CMAKE_CROSSCOMPILING)
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/share)
  add_custom_target(specular_documents ALL)
  specular_written_by_program(specular.1 ${CMAKE_INSTALL_MANDIR}/man1 man)
  specular_written_by_program(specular ${CMAKE_INSTALL_DATADIR}/bash-completion/completions completions bash)
  specular_written_by_program(_specular ${CMAKE_INSTALL_DATADIR}/zsh/site-functions completions zsh)
  specular_written_by_program(specular.fish ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d completions fish)
endif()
