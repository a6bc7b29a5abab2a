/* A camera of Video4Linux for a machine that has none. A program that is started with this library in LD_PRELOAD finds a camera
 * at the path in CAMERA, which gives the JPEG files 0000.jpg, 0001.jpg, ... of the folder in CAMERA_FOLDER over and over, 25 a
 * second. While that folder has a file "unplugged", the camera is not there.
 *
 * The descriptor of the camera is a file in memory, so that its buffers can be mapped as they are. It always counts as readable:
 * the wait for a picture is in VIDIOC_DQBUF. Only calls that name the camera are answered here; all others go to libc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BUFFERS = 4, BYTES = 1 << 20, MOST_FILES = 10000, PERIOD = 40000000 };

static int camera = -1;
static unsigned asked, picture, queued[BUFFERS], first, count;
static struct timespec next;

static int folder_file(char *path, size_t size, const char *name) {
    const char *folder = getenv("CAMERA_FOLDER");
    return folder && (size_t)snprintf(path, size, "%s/%s", folder, name) < size;
}

static int is_unplugged(void) {
    char path[4096];
    return !folder_file(path, sizeof path, "unplugged") || access(path, F_OK) == 0;
}

static int is_camera(const char *path) {
    const char *own = getenv("CAMERA");
    return path && own && strcmp(path, own) == 0;
}

static int open_camera(void) {
    if (is_unplugged()) {
        errno = ENOENT;
        return -1;
    }
    camera = memfd_create("camera", MFD_CLOEXEC);
    if (camera >= 0 && ftruncate(camera, (off_t)BUFFERS * BYTES) != 0) return -1;
    clock_gettime(CLOCK_MONOTONIC, &next);
    first = count = 0;
    return camera;
}

#define OPEN(NAME)                                                                 \
    int NAME(const char *path, int flags, ...) {                                   \
        va_list more;                                                              \
        va_start(more, flags);                                                     \
        int mode = va_arg(more, int);                                              \
        va_end(more);                                                              \
        if (is_camera(path)) return open_camera();                                 \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #NAME);             \
        return real(path, flags, mode);                                            \
    }
OPEN(open)
OPEN(open64)

int statx(int folder, const char *restrict path, int flags, unsigned mask, struct statx *restrict found) {
    int (*real)(int, const char *, int, unsigned, struct statx *) = dlsym(RTLD_NEXT, "statx");
    if (!is_camera(path)) return real(folder, path, flags, mask, found);
    if (is_unplugged()) {
        errno = ENOENT;
        return -1;
    }
    return real(folder, "/dev/null", flags, mask, found);
}

/* The picture's size, from the frame header of its JPEG file. */
static void size_of(const unsigned char *file, size_t length, unsigned *width, unsigned *height) {
    for (size_t at = 2; at + 9 < length; at += 2 + (file[at + 2] << 8) + file[at + 3]) {
        if (file[at + 1] == 0xc0) {
            *height = (file[at + 5] << 8) + file[at + 6];
            *width = (file[at + 7] << 8) + file[at + 8];
            return;
        }
    }
}

/* Reads picture `number`, or the first one behind the last. */
static size_t read_picture(unsigned char *to) {
    for (int attempt = 0; attempt < 2; attempt++) {
        char name[32], path[4096];
        snprintf(name, sizeof name, "%04u.jpg", picture % MOST_FILES);
        FILE *file = folder_file(path, sizeof path, name) ? fopen(path, "rb") : NULL;
        if (file) {
            size_t length = fread(to, 1, BYTES, file);
            fclose(file);
            return length;
        }
        picture = 0;
    }
    return 0;
}

static int format(struct v4l2_format *asked_for) {
    static unsigned char file[BYTES];
    unsigned width = 640, height = 360;
    size_of(file, read_picture(file), &width, &height);
    memset(&asked_for->fmt, 0, sizeof asked_for->fmt);
    asked_for->fmt.pix.width = width;
    asked_for->fmt.pix.height = height;
    asked_for->fmt.pix.pixelformat = V4L2_PIX_FMT_MJPEG;
    asked_for->fmt.pix.field = V4L2_FIELD_NONE;
    asked_for->fmt.pix.sizeimage = BYTES;
    return 0;
}

static int dequeue(struct v4l2_buffer *buffer) {
    if (is_unplugged()) {
        errno = ENODEV;
        return -1;
    }
    if (count == 0) {
        errno = EAGAIN;
        return -1;
    }
    next.tv_nsec += PERIOD;
    if (next.tv_nsec >= 1000000000) next.tv_sec++, next.tv_nsec -= 1000000000;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    unsigned index = queued[first];
    first = (first + 1) % BUFFERS;
    count--;
    unsigned char *to = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, camera, (off_t)index * BYTES);
    if (to == MAP_FAILED) return -1;
    size_t length = read_picture(to);
    munmap(to, BYTES);
    memset(buffer, 0, sizeof *buffer);
    buffer->index = index;
    buffer->type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    buffer->memory = V4L2_MEMORY_MMAP;
    buffer->bytesused = length;
    buffer->length = BYTES;
    buffer->sequence = picture++;
    return 0;
}

int ioctl(int fd, unsigned long request, ...) {
    va_list more;
    va_start(more, request);
    void *argument = va_arg(more, void *);
    va_end(more);
    if (fd != camera || fd < 0 || ((request >> 8) & 0xff) != 'V') {
        int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
        return real(fd, request, argument);
    }
    switch ((unsigned)request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *capability = argument;
        memset(capability, 0, sizeof *capability);
        strcpy((char *)capability->driver, "files");
        capability->capabilities = capability->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    }
    case VIDIOC_G_INPUT:
        *(int *)argument = 0;
        return 0;
    case VIDIOC_S_INPUT:
    case VIDIOC_STREAMON:
        return 0;
    case VIDIOC_STREAMOFF:
        first = count = 0;
        return 0;
    case VIDIOC_G_FMT:
    case VIDIOC_S_FMT:
    case VIDIOC_TRY_FMT:
        return format(argument);
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM: {
        struct v4l2_streamparm *parameters = argument;
        memset(&parameters->parm, 0, sizeof parameters->parm);
        parameters->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
        parameters->parm.capture.timeperframe.numerator = 1;
        parameters->parm.capture.timeperframe.denominator = 25;
        return 0;
    }
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *buffers = argument;
        asked = buffers->count = buffers->count > BUFFERS ? BUFFERS : buffers->count;
        return 0;
    }
    case VIDIOC_QUERYBUF: {
        struct v4l2_buffer *buffer = argument;
        if (buffer->index >= asked) break;
        buffer->length = BYTES;
        buffer->m.offset = buffer->index * BYTES;
        return 0;
    }
    case VIDIOC_QBUF: {
        struct v4l2_buffer *buffer = argument;
        if (buffer->index >= BUFFERS || count == BUFFERS) break;
        queued[(first + count++) % BUFFERS] = buffer->index;
        return 0;
    }
    case VIDIOC_DQBUF:
        return dequeue(argument);
    }
    errno = EINVAL;
    return -1;
}
