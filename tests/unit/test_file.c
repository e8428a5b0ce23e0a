#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"

static char folder[] = "/tmp/specular-file-XXXXXX";
static char path[128];

static const char *in_folder(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int enter(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static size_t count_entries(void)
{
    size_t n = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) n += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
    closedir(dir);
    return n;
}

static int leave(void **state)
{
    (void)state;
    const char *names[] = {"a", "b", "link", "empty", "fifo", "sub/deep", "sub"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (unlink(in_folder(names[i])) != 0) rmdir(path);
    return rmdir(folder);
}

static void assert_file(const char *name, const char *expected, size_t size)
{
    sp_bytes bytes;
    SP_TEST_OK(sp_file_read(in_folder(name), 1 << 20, &bytes, err));
    assert_int_equal(bytes.size, size);
    assert_memory_equal(bytes.data, expected, size);
    assert_int_equal(bytes.data[bytes.size], 0);
    sp_bytes_free(&bytes);
    assert_null(bytes.data);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    SP_TEST_OK(sp_file_write(in_folder("a"), "one\0two", 7, err));
    assert_file("a", "one\0two", 7);
    SP_TEST_OK(sp_file_write(in_folder("empty"), NULL, 0, err));
    assert_file("empty", "", 0);
    sp_map map;
    SP_TEST_OK(sp_map_open(in_folder("a"), &map, err));
    assert_int_equal(map.size, 7);
    assert_memory_equal(map.data, "one\0two", 7);
    sp_map_close(&map);
    SP_TEST_OK(sp_map_open(in_folder("empty"), &map, err));
    assert_int_equal(map.size, 0);
    sp_map_close(&map);
}

static void old_file_stays_until_commit(void **state)
{
    (void)state;
    SP_TEST_OK(sp_file_write(in_folder("b"), "old", 3, err));
    size_t before = count_entries();
    sp_writer writer;
    SP_TEST_OK(sp_writer_open(&writer, in_folder("b"), err));
    SP_TEST_OK(sp_writer_write(&writer, "new ", 4, err));
    assert_file("b", "old", 3);
    assert_int_equal(count_entries(), before + 1);
    SP_TEST_OK(sp_writer_write(&writer, "text", 4, err));
    SP_TEST_OK(sp_writer_commit(&writer, err));
    assert_file("b", "new text", 8);
    assert_int_equal(count_entries(), before);

    SP_TEST_OK(sp_writer_open(&writer, in_folder("b"), err));
    SP_TEST_OK(sp_writer_write(&writer, "lost", 4, err));
    sp_writer_discard(&writer);
    assert_file("b", "new text", 8);
    assert_int_equal(count_entries(), before);
}

static void temporary_of_a_killed_process_is_named_and_replaced(void **state)
{
    (void)state;
    char expected[160];
    pid_t child = fork();
    if (child == 0) {
        sp_writer writer;
        if (sp_writer_open(&writer, in_folder("a"), NULL) || sp_writer_write(&writer, "half", 4, NULL)) _exit(1);
        _exit(0);
    }
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    snprintf(expected, sizeof expected, "%s/.a.%ld.part", folder, (long)child);
    assert_int_equal(access(expected, F_OK), 0);
    assert_int_equal(unlink(expected), 0);

    /* A leftover under this very process number. */
    snprintf(expected, sizeof expected, "%s/.a.%ld.part", folder, (long)getpid());
    SP_TEST_OK(sp_file_write(expected, "stale", 5, err));
    SP_TEST_OK(sp_file_write(in_folder("a"), "fresh", 5, err));
    assert_file("a", "fresh", 5);
    assert_int_equal(access(expected, F_OK), -1);
}

static void link_keeps_pointing(void **state)
{
    (void)state;
    char target[160];
    SP_TEST_OK(sp_file_write(in_folder("a"), "first", 5, err));
    snprintf(target, sizeof target, "%s", path);
    assert_int_equal(symlink(target, in_folder("link")), 0);
    SP_TEST_OK(sp_file_write(in_folder("link"), "second", 6, err));
    assert_file("a", "second", 6);
    struct stat info;
    assert_int_equal(lstat(in_folder("link"), &info), 0);
    assert_true(S_ISLNK(info.st_mode));
}

static void rights_of_a_replaced_file_are_not_widened(void **state)
{
    (void)state;
    SP_TEST_OK(sp_file_write(in_folder("a"), "x", 1, err));
    assert_int_equal(chmod(path, 0600), 0);
    SP_TEST_OK(sp_file_write(in_folder("a"), "y", 1, err));
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

static void relative_name_is_written_here(void **state)
{
    (void)state;
    int here = open(".", O_RDONLY | O_DIRECTORY);
    assert_int_equal(chdir(folder), 0);
    sp_error error = {0};
    sp_status status = sp_file_write("a", "here", 4, &error);
    assert_int_equal(fchdir(here), 0);
    close(here);
    assert_int_equal(status, SP_OK);
    assert_file("a", "here", 4);
}

static void full_device_is_an_output_error(void **state)
{
    (void)state;
    struct stat device;
    if (stat("/dev/full", &device) || !S_ISCHR(device.st_mode)) skip();
    sp_error error = {0};
    assert_int_equal(sp_file_write("/dev/full", "x", 1, &error), SP_EOUTPUT);
    assert_int_equal(error.system_errno, ENOSPC);
    assert_non_null(strstr(error.message, "/dev/full"));
    assert_int_equal(access("/dev/full", F_OK), 0);
    SP_TEST_OK(sp_file_write("/dev/null", "x", 1, err));
}

/* A pipe takes what fits and then less than was asked for: the rest has to follow. */
static void short_writes_are_continued(void **state)
{
    (void)state;
    enum { SIZE = 1 << 20 };
    unsigned char *data = malloc(SIZE), *got = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++) data[i] = (unsigned char)(i * 2654435761u >> 24);
    assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
    pid_t child = fork();
    if (child == 0) _exit(sp_file_write(path, data, SIZE, NULL) == SP_OK ? 0 : 1);
    FILE *reader = fopen(path, "rb");
    assert_non_null(reader);
    assert_int_equal(fread(got, 1, SIZE, reader), SIZE);
    assert_int_equal(fgetc(reader), EOF);
    fclose(reader);
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    assert_memory_equal(got, data, SIZE);
    free(data);
    free(got);
}

static void assert_message(const sp_error *err, sp_status status, const char *part)
{
    assert_int_equal(err->status, status);
    if (!strstr(err->message, part)) fail_msg("'%s' is not in '%s'", part, err->message);
    assert_null(strchr(err->message, '\n'));
}

static void bad_inputs_are_named(void **state)
{
    (void)state;
    sp_bytes bytes;
    sp_map map;
    SP_TEST_OK(sp_file_write(in_folder("b"), "12345678", 8, err));
    SP_TEST_OK(sp_file_read(in_folder("b"), 8, &bytes, err));
    sp_bytes_free(&bytes);
    const struct {
        const char *name;
        size_t limit;
        const char *part;
    } cases[] = {
        {"absent", 100, "No such file"}, {"", 100, "is a folder"},        {"b", 7, "has 8 bytes, expected at most 7"},
        {"fifo", 100, "device or pipe"}, {"b/c", 100, "Not a directory"},
    };
    mkfifo(in_folder("fifo"), 0600);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sp_error error = {0};
        assert_int_equal(sp_file_read(in_folder(cases[i].name), cases[i].limit, &bytes, &error), SP_EFORMAT);
        assert_message(&error, SP_EFORMAT, cases[i].part);
        assert_null(bytes.data);
        if (cases[i].limit == 7) continue;
        error = (sp_error){0};
        assert_int_equal(sp_map_open(path, &map, &error), SP_EFORMAT);
        assert_message(&error, SP_EFORMAT, cases[i].part);
    }
}

static void bad_outputs_are_named(void **state)
{
    (void)state;
    const struct {
        const char *name, *part;
    } cases[] = {{"absent/a", "No such file"}, {"", "is a folder"}, {"b/c", "Not a directory"}};
    size_t before = count_entries();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sp_error error = {0};
        assert_int_equal(sp_file_write(in_folder(cases[i].name), "x", 1, &error), SP_EOUTPUT);
        assert_message(&error, SP_EOUTPUT, cases[i].part);
    }
    sp_error error = {0};
    assert_int_equal(sp_file_write("", "x", 1, &error), SP_EOUTPUT);
    assert_int_equal(count_entries(), before);
}

static void read_only_folder_is_an_output_error(void **state)
{
    (void)state;
    if (geteuid() == 0) skip();
    assert_int_equal(mkdir(in_folder("sub"), 0500), 0);
    sp_error error = {0};
    assert_int_equal(sp_file_write(in_folder("sub/deep"), "x", 1, &error), SP_EOUTPUT);
    assert_message(&error, SP_EOUTPUT, "Permission denied");
}

/* Standard input is a pipe of unknown length. */
static void dash_is_standard_input(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        char block[1000];
        memset(block, 'x', sizeof block);
        for (int i = 0; i < 100; i++)
            if (write(ends[1], block, sizeof block) != sizeof block) _exit(1);
        _exit(0);
    }
    close(ends[1]);
    int saved = dup(STDIN_FILENO);
    assert_int_equal(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    close(ends[0]);
    sp_bytes bytes;
    sp_error error = {0};
    sp_status status = sp_file_read("-", 100000, &bytes, &error);
    dup2(saved, STDIN_FILENO);
    close(saved);
    waitpid(child, NULL, 0);
    assert_int_equal(status, SP_OK);
    assert_int_equal(bytes.size, 100000);
    for (size_t i = 0; i < bytes.size; i++) assert_int_equal(bytes.data[i], 'x');
    sp_bytes_free(&bytes);
}

static void every_lost_allocation_is_reported(void **state)
{
    (void)state;
    SP_TEST_OK(sp_file_write(in_folder("a"), "kept", 4, err));
    size_t before = count_entries();
    sp_status status = SP_ENOMEM;
    for (size_t n = 0; status != SP_OK && n < 100; n++) {
        sp_test_allow_allocations(n);
        sp_error error = {0};
        status = sp_file_write(in_folder("a"), "next", 4, &error);
        assert_true(status == SP_OK || status == SP_ENOMEM);
        assert_int_equal(count_entries(), before);
    }
    assert_int_equal(status, SP_OK);
    sp_test_allow_allocations(0);
    sp_bytes bytes;
    assert_int_equal(sp_file_read(in_folder("a"), 10, &bytes, NULL), SP_ENOMEM);
    sp_alloc_hook(NULL);
    assert_file("a", "next", 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(old_file_stays_until_commit),
        cmocka_unit_test(temporary_of_a_killed_process_is_named_and_replaced),
        cmocka_unit_test(link_keeps_pointing),
        cmocka_unit_test(rights_of_a_replaced_file_are_not_widened),
        cmocka_unit_test(relative_name_is_written_here),
        cmocka_unit_test(full_device_is_an_output_error),
        cmocka_unit_test(short_writes_are_continued),
        cmocka_unit_test(bad_inputs_are_named),
        cmocka_unit_test(bad_outputs_are_named),
        cmocka_unit_test(read_only_folder_is_an_output_error),
        cmocka_unit_test(dash_is_standard_input),
        cmocka_unit_test(every_lost_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
