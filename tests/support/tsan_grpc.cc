// What ThreadSanitizer must not report: Debian's gRPC, Protobuf, Gloo and the parts of Abseil that
// gRPC uses are not instrumented, so what they order among their own threads is unknown to it. A
// report is dropped only if one of these libraries is on a stack. Linked into tests of the tsan
// preset.
extern "C" const char* __tsan_default_suppressions() {
  return "race:libgrpc.so\n"
         "race:libgrpc++.so\n"
         "race:libgpr.so\n"
         "race:libgloo.so\n"
         "race:libprotobuf.so\n"
         "race:libabsl_graphcycles_internal.so\n"
         "race:libprometheus-cpp-core.so\n"
         "race:libabsl_status.so\n"
         "race:libupb.so\n"
         "race:libabsl_cord.so\n"
         "race:libabsl_time.so\n"
         "race:libabsl_strings.so\n";
}
