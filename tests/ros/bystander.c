/* A process on Cyclone DDS 0.10, as on Humble and Jazzy robots, that looks up the type of every topic it discovers.
   Usage: bystander DOMAIN NUMBER_OF_TOPICS SECONDS. Prints the topics, and 0 is its exit status if it saw them all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dds/dds.h>

#define MAX_SEEN 256

int main(int argc, char **argv)
{
  if (argc != 4) return 2;
  dds_entity_t participant = dds_create_participant((dds_domainid_t) atoi(argv[1]), NULL, NULL);
  if (participant < 0) return 3;
  dds_entity_t reader = dds_create_reader(participant, DDS_BUILTIN_TOPIC_DCPSPUBLICATION, NULL, NULL);
  int wanted = atoi(argv[2]), seen = 0;
  char *names[MAX_SEEN];
  dds_time_t end = dds_time() + DDS_SECS(atoi(argv[3]));
  printf("looking\n");
  fflush(stdout);
  while (dds_time() < end && seen < wanted) {
    void *sample[1] = { NULL };
    dds_sample_info_t about[1];
    if (dds_take(reader, sample, about, 1, 1) <= 0) {
      dds_sleepfor(DDS_MSECS(20));
      continue;
    }
    dds_builtintopic_endpoint_t *endpoint = sample[0];
    const dds_typeinfo_t *info = NULL;
    int known = !about[0].valid_data || strncmp(endpoint->topic_name, "rt/", 3) != 0;
    for (int i = 0; !known && i < seen; i++) known = strcmp(names[i], endpoint->topic_name) == 0;
    if (!known && seen < MAX_SEEN && dds_builtintopic_get_endpoint_type_info(endpoint, &info) == DDS_RETCODE_OK) {
      dds_topic_descriptor_t *descriptor = NULL;
      dds_return_t code = dds_create_topic_descriptor(DDS_FIND_SCOPE_GLOBAL, participant, info, DDS_SECS(3), &descriptor);
      if (descriptor != NULL) dds_delete_topic_descriptor(descriptor);
      printf("%s %d\n", endpoint->topic_name, code);
      fflush(stdout);
      names[seen++] = strdup(endpoint->topic_name);
    }
    dds_return_loan(reader, sample, 1);
  }
  dds_delete(participant);
  return seen == wanted ? 0 : 4;
}
